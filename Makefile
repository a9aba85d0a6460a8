# The daily verbs. Each makes what it needs by itself: a virtual environment, the native modules, the packages.
# Needs Python 3.10 or newer with venv, and a C++17 compiler; nvcc, where there is one, adds the CUDA module.

PYTHON ?= python3
EDGE   := .venv-edge
DEV    := .venv
# pinned so that every machine trains and exports with the same release
TORCH  := torch==2.13.0

# export/ is installed as lad_edge.export: type checker and import linter read the tree as it is installed
TREE   := build/tree

NATIVE := setup.py pyproject.toml $(shell find csrc -type f) $(wildcard lad_edge/kernels/*.pyx)

.PHONY: demo test lint bench gpu-check gpu-pack wheel clean

demo: $(EDGE)/ready  ## run the shipped engine on the shipped video, on the CPU, without torch
	$(EDGE)/bin/lad-edge demo --out demo-output

test: $(DEV)/ready  ## all tests, in two processes of one thread each; those for a GPU or for data that is not here skip with a reason
	OMP_NUM_THREADS=1 $(DEV)/bin/python -m pytest --numprocesses 2

lint: $(DEV)/ready  ## style, types, import contracts, C++ format
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	rm -rf $(TREE) && mkdir -p $(TREE) && cp -r lad_edge benchmarks $(TREE)/ && cp -r export $(TREE)/lad_edge/export
	cd $(TREE) && $(CURDIR)/$(DEV)/bin/mypy --config-file $(CURDIR)/pyproject.toml -p lad_edge -p benchmarks
	cd $(TREE) && $(CURDIR)/$(DEV)/bin/lint-imports --config $(CURDIR)/pyproject.toml
	$(DEV)/bin/clang-format --dry-run --Werror $$(find csrc tests -name '*.?pp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.[ch]')

bench: $(DEV)/ready  ## kernels against numpy and OpenCV, and the whole frame with the demo engine
	$(DEV)/bin/python -m benchmarks.kernels
	$(DEV)/bin/lad-edge bench lad_edge/assets/demo.lad

gpu-check:  ## what only a GPU can show; PYTHON has PyTorch; WHEELS=build/gpu-pack where there is no network
	$(PYTHON) -m benchmarks.gpu_check $(if $(WHEELS),--wheels $(WHEELS))

gpu-pack:  ## what gpu-check installs, downloaded into build/gpu-pack in boxes that travel one by one
	$(PYTHON) -m benchmarks.gpu_pack build/gpu-pack

wheel: $(DEV)/ready  ## sdist and wheel into dist/
	$(DEV)/bin/python -m build --outdir dist

$(EDGE)/ready: $(NATIVE) $(shell find lad_edge export -name '*.py')
	$(PYTHON) -m venv --clear $(EDGE)
	$(EDGE)/bin/pip install --quiet --disable-pip-version-check .
	touch $@

$(DEV)/ready: $(NATIVE)
	$(PYTHON) -m venv --clear $(DEV)
	$(DEV)/bin/pip install --quiet --disable-pip-version-check $(TORCH)
	$(DEV)/bin/pip install --quiet --disable-pip-version-check --editable '.[train,dev]'
	touch $@

clean:
	rm -rf $(EDGE) $(DEV) build dist *.egg-info demo-output
	find . -name '__pycache__' -prune -exec rm -rf {} +
	find lad_edge -name '*.so' -delete
