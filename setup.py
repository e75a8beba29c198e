"""Everything is in setup.cfg; this file lets older installers make editable installations."""

from setuptools import setup

setup()
