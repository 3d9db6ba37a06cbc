"""The data plane: a Beam stage per module, in the order of the flow; `migrate` composes them."""
