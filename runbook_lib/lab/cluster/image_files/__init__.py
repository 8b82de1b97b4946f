"""What the cluster's images carry of our own: programs for the Python inside them."""
