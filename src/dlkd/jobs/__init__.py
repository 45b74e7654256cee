"""What a user asks for: train, distil, evaluate, score."""
