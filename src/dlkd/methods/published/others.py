"""The methods without a teacher, those that change the logits or weight the samples, and those of inner layers."""

from __future__ import annotations

from dlkd.features.method import FeatureMethod
from dlkd.methods import pieces
from dlkd.methods.label_terms import smoothed
from dlkd.methods.published.method import Method

LABELS_ALONE: dict[str, Method] = {
    "ce": Method(
        "CE(z_s, y)",
        "no teacher",
        {"ce_weight": 1.0},
        r"-\sum_c y_c \log p_{s,c}",
        teacher=False,
        takes_top_k=True,
        per_sample=True,
    ),
    "ls": Method(
        "CE(z_s, (1 − ε)·y + ε/C)",
        "label smoothing, no teacher; Szegedy et al., CVPR 2016",
        {"ce_weight": 1.0, "smoothing": 0.1},
        r"-\sum_c \left[(1-\varepsilon)\,y_c + \varepsilon/C\right] \log p_{s,c}",
        label=lambda s: smoothed(s["smoothing"]),
        teacher=False,
        takes_top_k=True,
        per_sample=True,
    ),
}
TRANSFORMS_AND_WEIGHTS: dict[str, Method] = {
    "lskd": Method(
        "T²·KL of z-scores",
        "Sun et al., CVPR 2024; T and weight of its command line",
        {"temperature": 2.0, "kd_weight": 9.0, "unbiased": False, "variant": "paper"},
        r"T^2\,\mathrm{KL}\left(\mathrm{softmax}(\hat z_t/T)\,\|\,\mathrm{softmax}(\hat z_s/T)\right),\quad "
        r"\hat z=\frac{z-\bar z}{\sigma(z)+\varepsilon}",
        "The variance is divided by C as in the paper, by C − 1 with `--loss.variant code`.",
        {"unbiased": True},
        transform=lambda s: pieces.standardised(s["unbiased"]),
        per_sample=True,
    ),
    "probemix": Method(
        "T²·KL to the mixture w·z_t + (1 − w)·z_p with the probe",
        "the mixture of R2KD (Kim et al. 2024) with KD: a control for what the probe adds as a second teacher",
        {"share": 0.7},
        r"T^2\,\mathrm{KL}\left(p_m(T)\,\|\,p_s(T)\right),\quad z_m=w\,z_t+(1-w)\,z_p",
        transform=lambda s: pieces.mixed_with_probe(s["share"]),
        uses_probe=True,
        per_sample=True,
    ),
    "wsld": Method(
        "w·T²·CE(p_t(T), p_s(T)), w = 1 − exp(−CE_s/CE_t)",
        "Zhou et al., ICLR 2021; defaults of cls_KD",
        {"temperature": 4.0, "ce_weight": 1.0, "kd_weight": 2.25},
        r"-w\,T^2\sum_c p_{t,c}(T)\log p_{s,c}(T),\quad w=1-e^{-\mathrm{CE}_s/\mathrm{CE}_t}",
        weight=lambda s: pieces.wsld,
        instead_of_kl=lambda s: pieces.soft_ce,
        uses_labels=True,
        takes_top_k=True,
        per_sample=True,
    ),
    "ea": Method(
        "w·T²·KL(T), w = H_t·(1 + H_s/H_max)/2",
        "Su et al. (EA-KD), ICCV 2025",
        {
            "temperature": 4.0,
            "entropy_temperature": 3.0,
            "entropy_bound": None,
            "ce_weight": 0.1,
            "kd_weight": 0.9,
            "variant": "paper",
        },
        r"w\,T^2\,\mathrm{KL}\left(p_t(T)\,\|\,p_s(T)\right),\quad w=\tfrac12 H_t\left(1+H_s/\log C\right)",
        "The student's entropy is divided by log C as in the paper; the code has the number 100 there.",
        {"entropy_bound": 100.0},
        weight=lambda s: pieces.entropies(s["entropy_temperature"], s["entropy_bound"]),
        per_sample=True,
    ),
}
LAYERS: dict[str, Method] = {
    "fitnet": Method(
        "1/n·Σ(r(f_s) − f_t)², r a learned linear map with batch norm",
        "Romero et al., ICLR 2015; weight of mdistiller",
        {"ce_weight": 1.0, "feature_weight": 100.0},
        r"\frac1n\left\|r(f_s)-f_t\right\|^2",
        "One stage with the student, as in mdistiller, instead of two one after the other. The regressor r works at "
        "each position (a 1×1 convolution) and has no ReLU, since features of a transformer can be negative; maps of "
        "other sizes are averaged to the smaller. By default the middle stage.",
        feature=lambda s: FeatureMethod("fitnet"),
    ),
    "at": Method(
        "1/P·Σ_p(a_s − a_t)², a = m/‖m‖, m_p = mean over channels of f²",
        "Zagoruyko and Komodakis, ICLR 2017; weight of mdistiller",
        {"ce_weight": 1.0, "feature_weight": 1000.0},
        r"\sum_{\text{layers}}\frac1P\left\|\frac{m_s}{\|m_s\|}-\frac{m_t}{\|m_t\|}\right\|^2,\quad "
        r"m_p=\frac1C\sum_c f_{c,p}^2",
        "Tokens are laid out as a grid, without the class token. By default all stages where both models have as many, "
        "and else the last (mdistiller pairs them from the first on and drops the rest). As in all published code a "
        "layer counts by its mean over P positions: the weight is for images of 32×32 and larger, and images of 8×8 "
        "want about a sixteenth of it.",
        feature=lambda s: FeatureMethod("at"),
        per_sample=True,
    ),
    "rkd": Method(
        "w_d·Huber of distances + w_a·Huber of angles between the samples of a batch",
        "Park et al., CVPR 2019; weights of its authors",
        {"ce_weight": 1.0, "feature_weight": 1.0, "distance_weight": 25.0, "angle_weight": 50.0},
        r"w_d\,\mathrm{mean}_{ij}\,H\left(\delta_{s,ij}-\delta_{t,ij}\right)+w_a\,\mathrm{mean}_{ijk}\,H\left("
        r"\cos_{s,ijk}-\cos_{t,ijk}\right),\quad \delta_{ij}=\|e_i-e_j\|/\mathrm{mean}",
        "Embeddings are means over the positions of a layer, by default the last stage. mdistiller takes what enters "
        "the classifier, which is another tensor in wide ResNets (a norm and a ReLU later), MobileNetV2 and "
        "ShuffleNetV2 (a convolution later); `--feature.student_layers conv2` is its choice for MobileNetV2. "
        "Coincident embeddings have a gradient of 0.",
        feature=lambda s: FeatureMethod("rkd", distance_weight=s["distance_weight"], angle_weight=s["angle_weight"]),
    ),
}
