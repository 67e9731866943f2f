"""The network and all that touches a tensor."""
