"""Images without labels: which they are, what stays as it was, and what the label term makes of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.special import log_softmax

from dlkd.data import DataOptions, ViewOptions, load_data, view_family
from dlkd.errors import UserError
from dlkd.methods import Signals, make_method
from dlkd.train.diagnostics import Diagnostics


@settings(deadline=None, max_examples=12)
@given(st.floats(0, 1), st.sampled_from([0.0, 0.3]), st.integers(0, 2**32))
def test_a_share_of_each_class_keeps_its_label_and_nothing_else_moves(share, noise, seed):
    options = DataOptions(noise=noise, seed=seed, per_class=60)
    whole, part = load_data(options), load_data(replace(options, labelled=share))
    true = load_data(replace(options, noise=0.0)).train.labels
    known = part.train.labels >= 0
    for c in range(10):
        assert known[true == c].sum() == round(share * int((true == c).sum()))
    assert torch.equal(part.train.labels[known], whole.train.labels[known])
    assert part.train.digest() == whole.train.digest() and np.array_equal(part.train.ids, whole.train.ids)
    assert part.train.unlabelled == int((~known).sum()) and len(part.train.labelled()) == int(known.sum())
    for a, b in ((part.held_out, whole.held_out), (part.test, whole.test)):
        assert torch.equal(a.labels, b.labels) and not a.unlabelled
    if noise:
        assert np.array_equal(part.train.wrong, whole.train.wrong & known.numpy())


def test_the_labels_of_a_share_are_among_those_of_a_larger_one():
    few, more = (load_data(DataOptions(labelled=share)).train.labels >= 0 for share in (0.1, 0.4))
    assert few.sum() < more.sum() and bool((more | ~few).all())
    other = load_data(DataOptions(labelled=0.1, seed=1)).train
    assert not np.array_equal(other.labelled().ids, load_data(DataOptions(labelled=0.1)).train.labelled().ids)
    assert load_data(DataOptions(labelled=1.0)).train.unlabelled == 0
    assert (
        f"{other.unlabelled} of {len(other)} training images had their labels hidden"
        in load_data(DataOptions(labelled=0.1, seed=1)).remarks
    )


def pictures(root, *names):
    for k, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (12, 16, 3), np.uint8)).save(path)
    return root


@pytest.fixture
def known(tmp_path):
    return pictures(tmp_path / "known", *(f"{c}/{k}.png" for c in "ab" for k in range(8)))


@pytest.fixture
def more(tmp_path):
    return pictures(tmp_path / "more", "x.png", "deep/er/y.jpg", "a/0.png", ".hidden/z.png")


def test_more_images_from_a_folder(known, more):
    options = DataOptions("folder", known, held_out=0.25, noise=0.5)
    plain, data = load_data(options), load_data(replace(options, unlabelled=more))
    added = data.train.take(np.flatnonzero(data.train.labels.numpy() < 0))
    names = [added.pixels.name(k) for k in range(len(added))]
    assert names == ["unlabelled/a/0.png", "unlabelled/deep/er/y.jpg", "unlabelled/x.png"]
    assert not added.wrong.any() and added.ids.tolist() == [16, 17, 18]
    rest = data.train.labelled()
    assert torch.equal(rest.labels, plain.train.labels) and np.array_equal(rest.ids, plain.train.ids)
    assert rest.digest() == plain.train.digest() != data.train.digest()
    assert len(data.held_out) == len(plain.held_out) and len(data.test) == len(plain.test)
    assert f"3 images without labels were added from {more}" in data.remarks
    assert Image.open(more / "a/0.png").size == data.train.pixels.load(len(rest)).size


def test_a_digest_knows_files_not_places(known, more, tmp_path):
    def digest(*changes):
        return load_data(DataOptions("folder", known, unlabelled=more)).train.digest()

    before = digest()
    more = more.rename(tmp_path / "elsewhere")
    assert digest() == before
    (more / "x.png").rename(more / "w.png")
    assert digest() != before


@pytest.mark.parametrize("where", ["", "a", "a/deep", ".."])
def test_images_of_the_data_set_are_no_more_images(known, where):
    (known / "a/deep").mkdir()
    with pytest.raises(UserError, match="one lies in the other"):
        load_data(DataOptions("folder", known, unlabelled=known / where))


def test_test_images_are_no_training_images(tmp_path):
    root = pictures(tmp_path, *(f"{part}/{c}/{k}.png" for part in ("train", "val", "rest") for c in "ab" for k in "01"))
    options = DataOptions("folder", root, held_out=0.0)
    with pytest.raises(UserError, match="test images"):
        load_data(replace(options, unlabelled=root / "val"))
    assert load_data(replace(options, unlabelled=root / "rest")).train.unlabelled == 4


@pytest.fixture
def anywhere(known, tmp_path):
    """A table that lies apart from the images that it names whole, 12 to learn from and 4 to be tested on."""
    names = [f"{known}/{c}/{k}.png,{c},{'train' if k < 6 else 'test'}" for c in "ab" for k in range(8)]
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "t.csv").write_text("\n".join(["path,label,split", *names]) + "\n")
    return DataOptions("table", tmp_path / "tables" / "t.csv", held_out=0.0)


def test_a_table_of_images_elsewhere_takes_more(anywhere, known, more):
    plain, data = load_data(anywhere), load_data(replace(anywhere, unlabelled=more))
    names = [data.train.pixels.name(k) for k in range(len(data.train))]
    assert names[:12] == [f"{known}/{c}/{k}.png" for c in "ab" for k in range(6)]
    assert names[12:] == ["unlabelled/a/0.png", "unlabelled/deep/er/y.jpg", "unlabelled/x.png"]
    assert data.train.labelled().digest() == plain.train.digest() != data.train.digest()


@pytest.mark.parametrize("name", ["a/7.png", "b/2.png"], ids=["test", "train"])
def test_images_that_a_table_names_are_no_more_images(anywhere, known, more, name):
    """Not in their folder, nor through a link to it, to one of them or to a folder on their way."""
    (more / "link.png").symlink_to(known / name)
    for folder, count in ((known, "16 of its 16"), (known / name[0], "8 of its 8"), (more, "1 of its 4")):
        with pytest.raises(UserError, match=f"labelled ones and test images, but {count} files are among them, such"):
            load_data(replace(anywhere, unlabelled=folder))
    (more / "link.png").unlink()
    (link := known.with_name("link")).symlink_to(known)
    with pytest.raises(UserError, match=f"such as {link}/a/0.png; move them$"):
        load_data(replace(anywhere, unlabelled=link))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labelled": 1.5}, r"--data.labelled to be in \[0, 1\]"),
        ({"labelled": float("nan")}, "--data.labelled"),
        ({"unlabelled": "x", "name": "digits"}, "images in folders with --data.unlabelled, but got digits"),
    ],
)
def test_options_that_make_no_sense(changes, message):
    with pytest.raises(UserError, match=message):
        load_data(DataOptions(**changes))


def test_folders_without_images(known, tmp_path):
    for folder, message in ((tmp_path / "none", "there is none"), (tmp_path / "empty", "found none")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=f"--data.unlabelled .*{message}"):
            load_data(DataOptions("folder", known, unlabelled=folder))


@pytest.mark.parametrize("mixing", ["none", "mixup", "cutmix"])
def test_targets_of_unlabelled_images_have_no_share(mixing):
    options = DataOptions(per_class=20)
    full, some = (
        view_family(ViewOptions(mixing=mixing), load_data(o), 0, 0) for o in (options, replace(options, labelled=0.5))
    )
    positions, views = np.arange(60), np.full(60, 3)
    a, b = full.batch(positions, views), some.batch(positions, views)
    assert torch.equal(a.images, b.images) and torch.equal(a.labels[b.labels >= 0], b.labels[b.labels >= 0])
    share = b.labelled_share()
    if mixing == "none":
        assert torch.equal(b.target, b.labels) and torch.equal(share, (b.labels >= 0).float())
        return
    # What is left of a target is what it was; what is missing belongs to images without a label.
    labels, partners = some.samples.labels, torch.from_numpy(some.partners(positions, views))
    gone = (labels[positions] < 0) | (labels[partners] < 0)
    assert torch.equal(a.target[~gone], b.target[~gone]) and bool((b.target <= a.target + 1e-7).all())
    both = (labels[positions] < 0) & (labels[partners] < 0)
    assert both.any() and bool((share[both] == 0).all()) and bool((share[gone & ~both] < 1).any())


def make_signals(seed, target, labelled):
    s, t = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Signals(s.requires_grad_(), t, target, torch.linspace(0, 1, 6), labelled=labelled)


def test_the_label_term_is_the_mean_over_what_is_labelled():
    target = torch.tensor([0, -1, 2, -1, -1, 1])
    known = (target >= 0).double()
    x, method = make_signals(3, target, known), make_method("kd")
    log_q = log_softmax(x.student_logits.detach().numpy(), axis=1)
    rows = [0, 2, 5]
    expected = -np.mean([log_q[k, target[k]] for k in rows])
    parts = method.parts(x)
    none = method.parts(x._replace(target=torch.full((6,), -1), labelled=torch.zeros(6).double()))
    assert (parts.total - none.total).item() == pytest.approx(0.1 * expected, rel=1e-12)
    # Rows without a label get the same gradient whether there are labels elsewhere or not.
    both = [torch.autograd.grad(p.total, x.student_logits)[0] for p in (parts, none)]
    unlabelled = [1, 3, 4]
    assert torch.equal(both[0][unlabelled], both[1][unlabelled]) and not torch.equal(both[0][rows], both[1][rows])
    soft = torch.nn.functional.one_hot(target.clamp(min=0), 4).double() * known[:, None]
    torch.testing.assert_close(method.parts(x._replace(target=soft)).total, parts.total, rtol=1e-12, atol=0)


def test_mixed_labels_count_by_their_share():
    target = torch.tensor([[0.7, 0, 0, 0.3], [0.6, 0, 0, 0], [0, 0, 0, 0], [0, 0.2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    x = make_signals(4, target.double(), target.double().sum(1))
    log_q = log_softmax(x.student_logits.detach().numpy(), axis=1)
    expected = -(target.double().numpy() * log_q).sum() / (1 + 0.6 + 0.2 + 1)
    found = make_method("kd").parts(x)
    alone = make_method("kd").parts(x._replace(target=torch.zeros(6, 4).double(), labelled=torch.zeros(6).double()))
    assert (found.total - alone.total).item() == pytest.approx(0.1 * expected, rel=1e-6)


def test_where_all_are_labelled_the_two_ways_agree():
    target = torch.tensor([0, 1, 2, 3, 0, 1])
    for name in ("kd", "dlkd", "lskd"):
        plain = make_method(name).parts(make_signals(5, target, None)).total
        stated = make_method(name).parts(make_signals(5, target, torch.ones(6).double())).total
        torch.testing.assert_close(plain, stated, rtol=1e-13, atol=0)


def test_figures_are_of_the_labelled_images():
    labels = torch.tensor([0, -1, 2, -1, 1, 1])
    x = make_signals(6, labels, (labels >= 0).float())
    parts = make_method("dlkd").parts(x)
    found = Diagnostics(torch.device("cpu"))
    found.add(parts, x.student_logits.detach(), torch.ones(6, 4), labels, x.teacher_logits)
    right = (x.student_logits.argmax(1) == labels).sum().item()
    means, known = found.epoch(), labels >= 0
    assert means["samples"] == 6 and means["accuracy"] == pytest.approx(100 * right / 4)
    assert means["ce"] == pytest.approx(parts.label[known].mean().item())
    assert means["kd"] == pytest.approx(parts.distillation.mean().item())
    tenths = {row["decile"]: row for row in found.by_level()}
    assert tenths[3]["accuracy"] is None and tenths[3]["ce"] is None and tenths[1]["ce"] is not None
