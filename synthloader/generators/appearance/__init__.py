"""What generators that change the appearance alone have in common."""
