"""KD, and the methods that compare student and teacher in another way."""

from __future__ import annotations

from dlkd.methods import pieces
from dlkd.methods.published.method import Method

_TWO_PARTS = {"ce_weight": 1.0, "kd_weight": 1.0, "warmup_epochs": 20.0}
_FINITE = (
    "log p and log(1 − p) are taken by log-sum-exp: the published code overflows in fp32 at margins of about 100·T."
)
DIVERGENCES: dict[str, Method] = {
    "kd": Method(
        "T²·KL(softmax(z_t/T) || softmax(z_s/T))",
        "Hinton et al. 2015; CIFAR-100 defaults of mdistiller",
        {"temperature": 4.0, "ce_weight": 0.1, "kd_weight": 0.9},
        r"T^2\,\mathrm{KL}\left(p_t(T)\,\|\,p_s(T)\right)",
        takes_top_k=True,
        per_sample=True,
    ),
    "dkd": Method(
        "T²·(α·TCKD + β·NCKD)",
        "Zhao et al., CVPR 2022; defaults of mdistiller (β is tuned for each pair there)",
        {"temperature": 4.0, "alpha": 1.0, "beta": 8.0, **_TWO_PARTS},
        r"T^2\left[\alpha\,\mathrm{KL}\left(b_t\,\|\,b_s\right)+\beta\,\mathrm{KL}\left(n_t\,\|\,n_s\right)\right],"
        r"\quad b=(p_y,\,1-p_y),\; n=\mathrm{softmax}_{c\neq y}(z/T)",
        _FINITE,
        divergence=lambda s: pieces.dkd(s["alpha"], s["beta"]),
        uses_labels=True,
        takes_top_k=True,
        per_sample=True,
    ),
    "nkd": Method(
        "−p_t,y·log p_s,y + γ·T²·CE(n_t(T), n_s(T)) over the other classes",
        "Yang et al., ICCV 2023; defaults of cls_KD",
        {"temperature": 3.0, "nkd_gamma": 3.5, "ce_weight": 1.0, "kd_weight": 1.0},
        r"-p_{t,y}\log p_{s,y}-\gamma\,T^2\sum_{c\neq y} n_{t,c}\log n_{s,c}",
        divergence=lambda s: pieces.nkd(s["nkd_gamma"]),
        scale="none",
        uses_labels=True,
        takes_top_k=True,
        per_sample=True,
    ),
    "mlkd": Method(
        "Σ_T [T²·KL(T) + ‖Gram of batch‖² + ‖Gram of classes‖²], T/4 = ½, ¾, 1, 1¼, 1½, of a weak and a strong view",
        "Jin et al., CVPR 2023; weights of its code",
        {"temperature": 4.0, "ce_weight": 0.1, "kd_weight": 0.9, "variant": "paper"},
        r"\sum_{v}\sum_{T}\left[T^2\,\mathrm{KL}\left(p_t\,\|\,p_s\right)+\tfrac1B\left\|P_tP_t^\top-P_sP_s^\top\right\|^2"
        r"+\tfrac1C\left\|P_t^\top P_t-P_s^\top P_s\right\|^2\right],\quad v\in\{\text{weak},\text{strong}\}",
        "All terms count for both views. In the published code the masks of the weak view scale means instead of "
        "choosing samples, the strong sum holds weak terms at T = 2 and 6, and the strong Gram terms are thrown away: "
        "`--loss.variant code` repeats that. On z-scores (`mlkd+lskd`) all three levels see those, and T = 2 moves the "
        "whole ladder: 1, 1.5, 2, 2.5, 3. In the published code, and with `--loss.variant code`, only the first level "
        "sees them, and the ladder is T, 3, 5, 2, 6 whatever T is.",
        divergence=lambda s: pieces.mlkd(s["variant"]),
        scale="none",
        two_views=True,
    ),
    "dist": Method(
        "T²·[β·(1 − row correlation) + γ·(1 − column correlation)]",
        "Huang et al., NeurIPS 2022; CIFAR-100 defaults of the authors",
        {
            "temperature": 4.0,
            "dist_beta": 1.0,
            "dist_gamma": 1.0,
            "eps": 0.0,
            "ce_weight": 1.0,
            "kd_weight": 2.0,
            "variant": "paper",
        },
        r"T^2\left[\beta\,\left(1-\rho_{\mathrm{rows}}(p_t,p_s)\right)+\gamma\,\left(1-\rho_{\mathrm{columns}}(p_t,p_s)"
        r"\right)\right]",
        "The correlation is exact. The code adds 1e-8 to the product of norms, which is visible at 1,000 classes: "
        "`--loss.variant code`.",
        {"eps": 1e-8},
        divergence=lambda s: pieces.dist(s["dist_beta"], s["dist_gamma"], s["eps"]),
    ),
    "rld": Method(
        "α·T_c²·KL(confidence) + β·T²·KL(classes below the label)",
        "Sun et al., ICCV 2025; temperatures as in its config",
        {"temperature": 4.0, "confidence_temperature": 1.0, "alpha": 1.0, "beta": 8.0, **_TWO_PARTS},
        r"\alpha\,T_c^2\,\mathrm{KL}\left((\max p_t,\,1-\max p_t)\,\|\,(p_{s,y},\,1-p_{s,y})\right)+\beta\,T^2\,"
        r"\mathrm{KL}\left(m_t\,\|\,m_s\right),\quad m=\mathrm{softmax}_{z_{t,c}<z_{t,y}}(z/T)",
        _FINITE + " Its README command has T_c = T: `--loss.confidence_temperature 4`.",
        divergence=lambda s: pieces.rld(s["alpha"], s["beta"], s["temperature"], s["confidence_temperature"]),
        scale="none",
        temperatures="one",
        uses_labels=True,
        per_sample=True,
    ),
    "r2kd": Method(
        "T²·[(1 − row cosine) + (1 − column cosine)] to the mixture w·z_t + (1 − w)·z_p with the probe",
        "Kim et al., IEEE TKDE 2024: the value loss",
        {
            "temperature": 4.0,
            "share": 0.7,
            "eps": 0.0,
            "ce_weight": 1.0,
            "kd_weight": 2.0,
            "variant": "paper",
        },
        r"T^2\left[\left(1-\cos_{\mathrm{rows}}(p_m,p_s)\right)+\left(1-\cos_{\mathrm{columns}}(p_m,p_s)\right)\right],"
        r"\quad z_m=w\,z_t+(1-w)\,z_p",
        "The rank loss is left out: ranks carry no gradient, so it is a constant for the optimiser. Our probe keeps "
        "the teacher's batch statistics; the published one runs on those of the batch (`--probe.norm batch "
        "--probe.scope layer --probe.sparsity 0.1`). Published runs add the value loss and the rank loss of a second, "
        "augmented pass over the images, without cross-entropy; here there is one pass, over views as `--views` says. "
        "`--loss.variant code` adds 1e-8 to the product of norms.",
        {"eps": 1e-8},
        divergence=lambda s: pieces.cosine(s["eps"]),
        transform=lambda s: pieces.mixed_with_probe(s["share"]),
        uses_probe=True,
    ),
    "mse": Method(
        "1/C·Σ(z_s − z_t)²",
        "Ba and Caruana, NeurIPS 2014; weights are ours",
        {"ce_weight": 0.1, "kd_weight": 0.9},
        r"\tfrac1C\sum_c\left(z_{s,c}-z_{t,c}\right)^2",
        divergence=lambda s: pieces.mse,
        scale="none",
        temperatures="none",
        per_sample=True,
    ),
}
