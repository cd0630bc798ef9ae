# Give the digest of a known image with --build-arg PYTHON=python:3.13-slim@sha256:…; a tag may change.
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
WORKDIR /src
COPY uv.lock ./
COPY supply supply
# pip and the build backend stay here: what runs has neither.
RUN python -m supply.export build > /tmp/build.txt \
 && python -m supply.export run > /tmp/run.txt \
 && python -m venv /opt/build \
 && /opt/build/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes \
      --only-binary :all: -r /tmp/build.txt \
 && python -m venv --without-pip /opt/pubsubd \
 && /opt/build/bin/python -m pip --python /opt/pubsubd/bin/python install --no-cache-dir --require-hashes \
      --only-binary :all: -r /tmp/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY broker broker
COPY cli cli
COPY client client
COPY protocol protocol
# The slim image has no C compiler.
RUN PUBSUBD_PURE=1 /opt/build/bin/python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /opt/build/bin/python -m pip --python /opt/pubsubd/bin/python install --no-cache-dir --no-deps --no-index \
      /wheel/*.whl \
 && /opt/build/bin/python -m pip --python /opt/pubsubd/bin/python check

FROM ${PYTHON}
# /run/pubsubd and /var/lib/pubsubd are all that the broker writes to. Nothing can be installed in here any more.
RUN groupadd --gid 10001 pubsubd \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pubsubd \
 && install -d -o 10001 -g 10001 -m 0750 /run/pubsubd \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/pubsubd \
 && rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/site-packages/pip* /usr/local/lib/python3.*/ensurepip
COPY --from=build /opt/pubsubd /opt/pubsubd
ENV PATH=/opt/pubsubd/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PUBSUBD_SOCKET=/run/pubsubd/pubsubd.sock
# By number: an orchestrator that demands a user other than root can tell.
USER 10001:10001
VOLUME ["/run/pubsubd", "/var/lib/pubsubd"]
EXPOSE 7420 9420
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9420/healthz', timeout=2).close()"]
ENTRYPOINT ["pubsubd"]
CMD ["start"]
