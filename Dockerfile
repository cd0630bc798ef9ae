FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY broker broker
COPY cli cli
COPY client client
COPY protocol protocol
RUN python -m venv /opt/pubsubd \
 && /opt/pubsubd/bin/pip install --no-cache-dir --disable-pip-version-check . \
 && /opt/pubsubd/bin/pip uninstall --yes --quiet pip

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin pubsubd \
 && install -d -o pubsubd -g pubsubd -m 0700 /run/pubsubd
COPY --from=build /opt/pubsubd /opt/pubsubd
ENV PATH=/opt/pubsubd/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PUBSUBD_SOCKET=/run/pubsubd/pubsubd.sock \
    PUBSUBD_LISTEN=0.0.0.0:7420 \
    PUBSUBD_HTTP=0.0.0.0:9420
USER pubsubd
VOLUME /run/pubsubd
EXPOSE 7420 9420
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9420/healthz', timeout=2).close()"]
ENTRYPOINT ["pubsubd"]
CMD ["start"]
