"""What an attempt came to: its kinds, the tables that tell them apart, and the hints that errors hold."""
