# The service, ready for `docker run` with the environment that README.md lists. compose.yaml runs it with its stores.

FROM python:3.12-slim-bookworm AS builder
RUN python -m venv /opt/venv
COPY requirements.txt /tmp/requirements.txt
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps -r /tmp/requirements.txt

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin leaderboard
COPY --from=builder /opt/venv /opt/venv
WORKDIR /srv/leaderboard
COPY manage.py ./
COPY leaderboard_site ./leaderboard_site
COPY scores ./scores
COPY realtime ./realtime

# A container has its own network, so the server listens on all of its addresses. Which CPUs it uses is decided outside of it.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    CPU_AFFINITY=off
USER leaderboard
EXPOSE 8000
STOPSIGNAL SIGTERM
# Live and not ready: a container must not be restarted because PostgreSQL is away. The image has no curl, and the
# request must not use a proxy that the environment names.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(f\"http://127.0.0.1:{os.environ['PORT']}/healthz/live\", timeout=2)"]
CMD ["python", "-m", "leaderboard_site.server"]
