"""The ground that every room stands on: checks at the door, precision, memory, seeds, devices, contents of tensors."""
