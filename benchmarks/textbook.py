"""The distillation losses as one would write them from the papers in an afternoon: what benchmarks/losses.py holds ours
against. Values and gradients agree with ours on ordinary logits; nothing is done for extreme ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def cross_entropy(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(s, y)


def kd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(s / 4, dim=1), F.softmax(t / 4, dim=1), reduction="batchmean") * 16


def own_temperature(s: Tensor, t: Tensor, temperature: Tensor) -> Tensor:
    column = temperature.unsqueeze(1)
    rows = F.kl_div(F.log_softmax(s / column, dim=1), F.softmax(t / column, dim=1), reduction="none").sum(dim=1)
    return (temperature**2 * rows).mean()


def dkd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    label = torch.zeros_like(s).scatter_(1, y.unsqueeze(1), 1)
    p, q = F.softmax(t / 4, dim=1), F.softmax(s / 4, dim=1)
    two_p = torch.stack([(p * label).sum(dim=1), (p * (1 - label)).sum(dim=1)], dim=1)
    two_q = torch.stack([(q * label).sum(dim=1), (q * (1 - label)).sum(dim=1)], dim=1)
    target = F.kl_div(two_q.log(), two_p, reduction="batchmean")
    p, log_q = F.softmax(t / 4 - 1000 * label, dim=1), F.log_softmax(s / 4 - 1000 * label, dim=1)
    return 16 * (target + 8 * F.kl_div(log_q, p, reduction="batchmean"))


def nkd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    column = y.unsqueeze(1)
    q_y, p_y = F.softmax(s, dim=1).gather(1, column), F.softmax(t, dim=1).gather(1, column)
    others = torch.ones_like(s).scatter_(1, column, 0).bool()
    log_q = F.log_softmax(s[others].reshape(len(s), -1) / 3, dim=1)
    p = F.softmax(t[others].reshape(len(t), -1) / 3, dim=1)
    return -(p_y * q_y.log()).mean() - 3.5 * 9 * (p * log_q).sum(dim=1).mean()


def mlkd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    total = s.new_zeros(())
    for temperature in (2, 3, 4, 5, 6):
        p, q = F.softmax(t / temperature, dim=1), F.softmax(s / temperature, dim=1)
        log_q = F.log_softmax(s / temperature, dim=1)
        total = total + temperature**2 * F.kl_div(log_q, p, reduction="batchmean")
        total = total + (q @ q.T - p @ p.T).square().sum() / len(s) + (q.T @ q - p.T @ p).square().sum() / s.shape[1]
    return total


def pearson(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True), dim=1).mean()


def dist(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    p, q = F.softmax(t / 4, dim=1), F.softmax(s / 4, dim=1)
    return 16 * (2 - pearson(q, p) - pearson(q.T, p.T))


def r2kd_value(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    p, q = F.softmax(t / 4, dim=1), F.softmax(s / 4, dim=1)
    rows, columns = F.cosine_similarity(q, p, dim=1).mean(), F.cosine_similarity(q, p, dim=0).mean()
    return 2 * 16 * (2 - rows - columns)


def rld(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    column = y.unsqueeze(1)
    q_y = F.softmax(s, dim=1).gather(1, column)
    top = F.softmax(t, dim=1).max(dim=1, keepdim=True).values
    two_p, two_q = torch.cat([top, 1 - top], dim=1), torch.cat([q_y, 1 - q_y], dim=1)
    confidence = F.kl_div(two_q.log(), two_p, reduction="batchmean")
    above = (t >= t.gather(1, column)).to(t)
    p, log_q = F.softmax(t / 4 - 1000 * above, dim=1), F.log_softmax(s / 4 - 1000 * above, dim=1)
    return confidence + 8 * 16 * F.kl_div(log_q, p, reduction="batchmean")


def z_score(z: Tensor) -> Tensor:
    return (z - z.mean(dim=1, keepdim=True)) / (1e-7 + z.std(dim=1, keepdim=True, unbiased=False))


def lskd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    log_q, p = F.log_softmax(z_score(s) / 2, dim=1), F.softmax(z_score(t) / 2, dim=1)
    return F.kl_div(log_q, p, reduction="batchmean") * 4


def wsld(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    soft = -(F.softmax(t / 4, dim=1) * F.log_softmax(s / 4, dim=1)).sum(dim=1)
    ce_s, ce_t = F.cross_entropy(s.detach(), y, reduction="none"), F.cross_entropy(t, y, reduction="none")
    return ((1 - torch.exp(-ce_s / (ce_t + 1e-7))) * 16 * soft).mean()


def ttm(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    power = F.softmax(t, dim=1) ** 0.1
    p = power / power.sum(dim=1, keepdim=True)
    return F.kl_div(F.log_softmax(s, dim=1), p, reduction="batchmean")


def wttm(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    power = F.softmax(t, dim=1) ** 0.2
    u = power.sum(dim=1, keepdim=True)
    rows = F.kl_div(F.log_softmax(s, dim=1), power / u, reduction="none").sum(dim=1)
    return (u.squeeze(1) * rows).mean()


def normkd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    t_s, t_t = (2 * z.std(dim=1, keepdim=True, unbiased=False) + 1e-7 for z in (s, t))
    rows = F.kl_div(F.log_softmax(s / t_s, dim=1), F.softmax(t / t_t, dim=1), reduction="none").sum(dim=1)
    return (t_t.squeeze(1) ** 2 * rows).mean()


def dtkd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    m_s, m_t = (z.max(dim=1, keepdim=True).values - z.mean(dim=1, keepdim=True) for z in (s, t))
    t_t, t_s = 8 * m_t / (m_s + m_t), 8 * m_s / (m_s + m_t)
    own = F.kl_div(F.log_softmax(s / t_s, dim=1), F.softmax(t / t_t, dim=1), reduction="none").sum(dim=1)
    return 3 * ((t_s * t_t).squeeze(1) * own).mean() + kd(s, t, y)


def ats(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    tau = torch.full_like(t, 2.0).scatter_(1, y.unsqueeze(1), 4.0)
    return F.kl_div(F.log_softmax(s, dim=1), F.softmax(t / tau, dim=1), reduction="batchmean")


def energy_kd(low: float, high: float) -> Loss:
    def loss(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
        energy = -4 * torch.logsumexp(t / 4, dim=1)
        return own_temperature(s, t, torch.where(energy < low, 2.0, torch.where(energy > high, 6.0, 4.0)))

    return loss


def ea_kd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    p, q = F.softmax(t / 3, dim=1), F.softmax(s.detach() / 3, dim=1)
    h_t, h_s = -(p * p.log()).sum(dim=1), -(q * q.log()).sum(dim=1)
    weight = h_t * (1 + h_s / math.log(s.shape[1])) / 2
    rows = F.kl_div(F.log_softmax(s / 4, dim=1), F.softmax(t / 4, dim=1), reduction="none").sum(dim=1)
    return (weight * 16 * rows).mean()


def mse(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(s, t)
