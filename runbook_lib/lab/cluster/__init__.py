"""The test cluster: a real Kubernetes and KServe on this machine, with pretended GPUs."""
