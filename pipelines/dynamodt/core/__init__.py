"""Pure logic: the standard library only. No AWS, no Beam, no clock of its own."""
