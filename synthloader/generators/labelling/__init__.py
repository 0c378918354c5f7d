"""What generators ask of labels: kinds that stay true, classes that are wanted, pixels that are objects."""
