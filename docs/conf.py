"""Configuration of Sphinx: `sphinx-build -W docs docs/_build/html`. Nothing is fetched from the network."""

import os
import re

from docutils.nodes import reference

os.environ["MPLBACKEND"] = "agg"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's threads sleep while others compute

import torchlinreg

project = "torchlinreg"
author = "The torchlinreg developers"
copyright = author
version = release = torchlinreg.__version__

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates", "tutorials"]
smartquotes = False
default_role = "literal"
templates_path = ["_templates"]
suppress_warnings = ["config.cache"]  # the gallery's order is a function, which no cache can hold

# Markdown
myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 3

# Pages of the public classes and functions, from their docstrings
autosummary_generate = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
_METADATA_ROUTING = ("get_metadata_routing", "set_fit_request", "set_partial_fit_request", "set_score_request")
autodoc_default_options = {
    "members": True,
    "inherited-members": True,
    "exclude-members": ", ".join(_METADATA_ROUTING),
}
numpydoc_show_class_members = False
numpydoc_use_plots = False

# Pictures of the pages: docs/pictures/*.py
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("svg", 100)]
plot_rcparams = {"figure.constrained_layout.use": True, "svg.fonttype": "path"}
plot_apply_rcparams = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "auto/gallery",
    "within_subsection_order": "FileNameSortKey",
    "reference_url": {"torchlinreg": None},
    "doc_module": ("torchlinreg",),
    "backreferences_dir": "auto/backreferences",
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "download_all_examples": False,
    "capture_repr": (),
    "image_srcset": ["2x"],
}

html_theme = "pydata_sphinx_theme"
html_title = "torchlinreg"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_sidebars = {name: [] for name in ("start", "performance", "internals")}
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "header_links_before_dropdown": 6,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-dark",
}

# Where other projects keep the page of a name, so that no inventory has to be fetched
ELSEWHERE = {
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{}.html",
    "torch": "https://docs.pytorch.org/docs/stable/generated/{}.html",
}


def link_elsewhere(app, env, node, contnode):
    """Link a class, function or method of scikit-learn or torch to its page there."""
    target = node.get("reftarget", "")
    page = ELSEWHERE.get(target.partition(".")[0])
    if page is None or node.get("reftype") == "mod":
        return None
    owner = re.match(r"(?:[a-z_]\w*\.)+[A-Z]\w*|.*", target).group()  # a method is on the page of its class
    return reference("", "", contnode, internal=False, refuri=page.format(owner))


def setup(app):
    """Register `link_elsewhere`."""
    app.connect("missing-reference", link_elsewhere)
