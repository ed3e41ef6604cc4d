"""What the tests of the command line share."""

import json


def records(out):
    """What `--json` printed: a record for each image, and the summary."""
    *images, summary = [json.loads(line) for line in out.splitlines()]
    return images, summary


def assert_refused(outcome, message):
    """Wrong input is one clear line, exit status 2, and no output."""
    status, out, err = outcome
    assert (status, out) == (2, "")
    assert err.startswith("fragile: error: ")
    assert err.count("\n") == 1
    assert message in err
