"""A page and a JSON endpoint that say what a trained model thinks of a picture."""
