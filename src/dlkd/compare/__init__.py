"""Methods side by side under one recipe: who wins, by how much, and how sure that is."""
