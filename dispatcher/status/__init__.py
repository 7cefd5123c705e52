"""What a person sees of a running dispatcher, and may do to it: page, interface, health."""
