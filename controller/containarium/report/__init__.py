"""What others are told of the controller's work: status, events, metrics and the log. It decides nothing."""
