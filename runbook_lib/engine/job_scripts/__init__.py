"""Programs that a build Job runs in its containers; they know nothing but Python 3.10 and boto3."""
