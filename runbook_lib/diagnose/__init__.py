"""From a symptom to the line that shows the cause and the one thing to change."""
