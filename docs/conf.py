"""Settings of the documentation site, which scripts/docs builds with Sphinx."""

from __future__ import annotations

import edgeq

project = "edgeq"
author = "the edgeq developers"
version = release = edgeq.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_click",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
default_role = "code"  # a docstring's `name`

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3  # as on GitHub, so that links work in both places

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"edgeq {version}"
html_static_path = ["images"]
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = False
linkcheck_timeout = 20
linkcheck_retries = 2
