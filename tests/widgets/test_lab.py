"""The widgets in a real JupyterLab, driven as a person would: mouse and keyboard, in a browser without network."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from conftest import CHROMIUM  # isort: skip

ROOT = Path(__file__).parents[2]
LAB = """
--no-browser --allow-root --ip=127.0.0.1 --IdentityProvider.token=t --LabApp.expose_app_in_browser=True
--ServerApp.root_dir=. --LabApp.extension_manager=readonly --LabApp.news_url=None
--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate
""".split()
