"""Noise processes: frozen dataclasses of pure functions, which receive the noise that they need."""

from dtql_jax.diffusion.ddpm import DDPM
from dtql_jax.diffusion.karras import EDM, Network, Preconditioning
from dtql_jax.diffusion.sde import VE, VP, VPSDE

# What a setting `schedule` names.
SCHEDULES: dict[str, type[Preconditioning]] = {'edm': EDM, 'vp': VP, 've': VE}

__all__ = ['DDPM', 'EDM', 'SCHEDULES', 'VE', 'VP', 'VPSDE', 'Network', 'Preconditioning']
