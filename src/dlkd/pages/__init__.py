"""From pages of options, YAML and recipes, and from command lines, to typed options."""
