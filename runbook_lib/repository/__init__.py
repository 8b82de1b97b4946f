"""Model repositories: Triton's layout, its configuration files, what is wrong with one, and stores."""
