"""Rewards run here: a pool of subprocesses that can be killed."""

from __future__ import annotations
