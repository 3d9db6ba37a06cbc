"""`dynamodt doctor`: whether a stage is as a run needs it, and whether its services behave as the product assumes."""
