"""Which labels are wrong, and which images are hard?"""
