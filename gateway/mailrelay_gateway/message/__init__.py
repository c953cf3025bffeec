"""The message itself: envelope, trace headers, delivery status notifications. Pure."""
