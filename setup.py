"""Installs the RND agent: `pip install -e .` or `pip install -e .[test]`.

On Python 3.12 and later also: `pip install --no-deps -r
requirements-no-deps.txt`.
"""

import pathlib
import re

import setuptools

_ROOT = pathlib.Path(__file__).resolve().parent
# TF-Agents' last release works with two sets of packages: that of its time, and
# on Pythons that are newer than it, a TensorFlow of today with Keras 2 beside
# it (tf-keras). There TF-Agents itself is installed without its dependencies,
# see requirements-no-deps.txt; what it imports is listed here.
_OLDER = '; python_version < "3.12"'
_NEWER = '; python_version >= "3.12"'
_TF_AGENTS_ERA = [
    'tf-agents==0.19.0',
    'tensorflow>=2.15.1,<2.16',
    'tensorflow-probability~=0.23.0',
    'numpy>=1.23.5,<2',
    # Later releases ask for numpy 2.
    'opencv-python-headless>=4.8,<4.12',
]
_TODAY = [
    'tensorflow>=2.21,<2.22',
    'tf-keras>=2.21,<2.22',
    'tensorflow-probability>=0.25,<0.26',
    'tensorboard>=2.20',
    # TF-Agents makes a number of an array of one, an error from NumPy 2.4 on.
    'numpy>=2.1,<2.4',
    'opencv-python-headless>=4.12',
    # Of TF-Agents.
    'cloudpickle>=1.3', 'pillow', 'six', 'typing-extensions>=4.5',
]

_MINIGRID = ['minigrid>=2.3']
# From there on with a wheel of Box2D instead of sources for swig.
_BOX2D = ['gymnasium[box2d]>=1.3']

_EXTRAS = {
    'test': [
        'pytest>=7.4', 'pytest-xdist>=3.3', 'import-linter>=2.0',
        # IPython 8.20 and later need typing-extensions that TF-Agents forbids.
        'nbclient>=0.8', 'nbformat>=5', 'ipykernel>=6', 'ipython<8.20' + _OLDER,
        *_MINIGRID, *_BOX2D,
    ],
    'lint': ['ruff>=0.4'],
    'minigrid': _MINIGRID,
    'box2d': _BOX2D,
    # Its emulator, nes-py, is built from source: needs a C++ compiler. Its last
    # release for gym fails with NumPy 2 (OverflowError: 1024 for uint8).
    'mario': ['gym-super-mario-bros>=7.4,<8' + _OLDER],
    'reverb': ['dm-reverb~=0.14.0' + _OLDER],
}


def _version():
  """Returns the version string written in `rnd_agent/__init__.py`."""
  text = (_ROOT / 'rnd_agent' / '__init__.py').read_text(encoding='utf-8')
  return re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE).group(1)


setuptools.setup(
    name='rnd-agent',
    version=_version(),
    description='Random Network Distillation for TF-Agents',
    long_description=(_ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='The RND Agent Authors',
    license='Apache-2.0',
    python_requires='>=3.10,<3.14',
    packages=[
        *setuptools.find_packages(include=['rnd_agent', 'rnd_agent.*']),
        'rnd_agent.configs',
    ],
    package_dir={'rnd_agent.configs': 'configs'},
    package_data={'rnd_agent.configs': ['*.gin']},
    entry_points={'console_scripts': [
        f'rnd-{name} = rnd_agent.commands.{name}:run'
        for name in ('train', 'play', 'plot')
    ]},
    install_requires=[
        *(package + _OLDER for package in _TF_AGENTS_ERA),
        *(package + _NEWER for package in _TODAY),
        'gin-config>=0.5,<0.6',
        'absl-py>=1.0',
        'psutil>=5.9',
        'filelock>=3.20.1',  # From there on it follows no link.
        # TF-Agents 0.19 accepts no newer gym; ale-py registers with gymnasium.
        'gym==0.23.0',
        'gymnasium>=1.0,<2',
        'ale-py>=0.12,<1',
        'numba>=0.61',  # For the screens of Atari games.
        # Brings its own encoder: no system ffmpeg is needed.
        'imageio-ffmpeg>=0.4.9',
        # For plot.py.
        'matplotlib>=3.7',
        'scikit-learn>=1.3',
        # TensorBoard 2.15 imports pkg_resources, which later releases lack; and
        # TF-Agents imports distutils, which Python 3.12 has from here alone.
        'setuptools<81',
    ],
    extras_require={
        **_EXTRAS,
        'all': sorted({name for names in _EXTRAS.values() for name in names}),
    },
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
