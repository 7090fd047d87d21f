"""States all metadata of the distribution. The settings of tools are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

README = Path(__file__).parent / 'README.md'

# The lower bounds are the versions that the tests run with on the oldest supported Python.
REQUIRES = [
    'absl-py>=2.3.1',
    'chex>=0.1.91',
    'flax>=0.12',
    'gymnasium[mujoco]>=1.2',
    'gymnasium-robotics>=1.4',
    'h5py>=3.11',
    'imageio>=2.34',  # gymnasium's MuJoCo environments import it
    'jax>=0.10',
    'matplotlib>=3.9',
    'minari[hdf5,hf]>=0.5.3',
    # Before 3.5 contacts are not those of the data (tools/validate_simulators), and from 3.12 on
    # gymnasium-robotics' kitchen does not build.
    'mujoco>=3.5,<3.12',
    'numpy>=2.0',
    'optax>=0.2.6',
    'orbax-checkpoint>=0.12',
    'packaging>=23',
    'Pillow>=10.3',  # minari imports it to read hdf5, and does not require it
]
EXTRAS = {
    # A new minor version of ruff may format differently.
    'test': [
        'pytest>=8.2',
        'pytest-xdist>=3.6',
        'ruff>=0.17,<0.18',
        'ogbench>=1.2',
        'mypy>=1.18',
        'build>=1.2',
        'hypothesis>=6.140',
        # What exported policies are written and read with.
        'flatbuffers>=24',
        'onnx>=1.19',
        'onnxruntime>=1.22',
    ],
    'docs': ['mkdocs>=1.6', 'mkdocs-material>=9.6', 'mkdocstrings[python]>=0.29'],
    'ogbench': ['ogbench>=1.2'],
    'wandb': ['wandb>=0.18'],
    'tensorboard': ['tensorboard>=2.17'],
    # Exported policies: ONNX, and StableHLO, whose files jax writes with flatbuffers.
    'onnx': ['onnx>=1.19', 'onnxruntime>=1.22'],
    'stablehlo': ['flatbuffers>=24'],
    'tables': ['pandas>=2.2', 'polars>=1.9', 'pyarrow>=17'],
    # Launchers of studies.
    'slurm': ['submitit>=1.5'],
    'ray': ['ray>=2.30'],
    'cuda': ['jax[cuda12]>=0.10'],
    'tpu': ['jax[tpu]>=0.10'],
}
EXTRAS['dev'] = [*EXTRAS['test'], *EXTRAS['docs'], 'pre-commit>=3.7']

setup(
    name='dtql_jax',
    version='0.1.0',
    description='Offline reinforcement learning with diffusion policies in JAX, many seeds at once',
    long_description=README.read_text(encoding='utf-8') if README.exists() else '',
    long_description_content_type='text/markdown',
    author='The dtql_jax authors',
    project_urls={'Paper': 'https://arxiv.org/abs/2405.19690'},
    license='MIT',
    license_files=['LICENSE'],
    python_requires='>=3.11',
    packages=find_packages(include=['dtql_jax', 'dtql_jax.*']),
    package_data={'dtql_jax': ['py.typed', 'report/page.css', 'studies/published.csv']},
    entry_points={'console_scripts': ['dtql = dtql_jax.cli.main:main']},
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    keywords='offline-reinforcement-learning diffusion-policy jax flax',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: MacOS',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Typing :: Typed',
    ],
)
