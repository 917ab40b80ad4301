# One image for every command of `imagetools`: docker build -t imagetools .

FROM python:3.11-slim-bookworm AS build
RUN python -m venv /opt/imagetools
ENV PATH=/opt/imagetools/bin:$PATH
WORKDIR /src
# What it depends on changes seldom, so it comes in a layer of its own.
# PIP_EXTRA_INDEX_URL can name an index with PyTorch for the CPU alone: that makes the image several GB smaller.
ARG PIP_EXTRA_INDEX_URL
COPY pyproject.toml requirements.lock ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > requirements.txt \
 && pip install --no-cache-dir --constraint requirements.lock --requirement requirements.txt
COPY . .
RUN pip install --no-cache-dir --no-deps .

FROM python:3.11-slim-bookworm
# OpenCV loads libGL.so.1 and libgthread. Debian removes old versions from its mirrors, so none is named.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/*
# A volume takes the owner of the folder that it covers when it is first used.
# There is no source and no target: match requests take images from there only where these are mounted.
RUN useradd --create-home --uid 1000 solver \
 && install --directory --owner=solver --group=solver \
        /home/solver/images /home/solver/models /home/solver/location /home/solver/features \
        /home/solver/bridge
COPY --from=build /opt/imagetools /opt/imagetools
ENV PATH=/opt/imagetools/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 1000
WORKDIR /home/solver
ENTRYPOINT ["imagetools"]
CMD ["--help"]
