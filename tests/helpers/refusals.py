"""What a command says of a bad input."""


def refused(done, *words):
    """One clear line with all the words in it, and exit code 2."""
    assert done.status == 2, done
    assert done.err.startswith("dlkd: error: ") and len(done.err.splitlines()) == 1, done.err
    assert done.err.count("\n") == 1 and "Traceback" not in done.err, done.err
    for word in words:
        assert str(word) in done.err, (word, done.err)
