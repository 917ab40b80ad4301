# One image for every command of `imagetools`: docker build -t imagetools .

FROM python:3.11-slim-bookworm AS build
RUN python -m venv /opt/imagetools
ENV PATH=/opt/imagetools/bin:$PATH
WORKDIR /src
# Dependencies change seldom, so they have a layer of their own.
# PIP_EXTRA_INDEX_URL can name an index with PyTorch for CPUs, which makes the image several GB smaller.
ARG PIP_EXTRA_INDEX_URL
COPY pyproject.toml requirements.lock ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['traces'], sep='\n')" > requirements.txt \
 && pip install --no-cache-dir --constraint requirements.lock --requirement requirements.txt
COPY . .
RUN pip install --no-cache-dir --no-deps .

FROM python:3.11-slim-bookworm
# OpenCV loads libGL.so.1 and libgthread. No pinned versions: Debian removes old ones from its mirrors.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/*
# A new volume takes the owner of the folder that it covers.
# source and target are absent: match requests read images from them only if they are mounted.
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
