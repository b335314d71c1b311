"""When a model is to be trained again: conditions over what its monitor says, and rules that ask seldom and surely."""
