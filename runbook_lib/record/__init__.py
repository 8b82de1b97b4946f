"""Records: running pages truthfully, keeping what they did, and proving that nobody changed it."""
