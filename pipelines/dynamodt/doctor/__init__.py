"""`dynamodt doctor`: checks that a stage has what a run needs, and that its services behave as the product assumes."""
