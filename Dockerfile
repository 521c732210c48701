# syntax=docker/dockerfile:1
#
# Build: docker build -t tollkeeper .
# With the official uWebSockets.js instead of its npm repackaging:
#        docker build -t tollkeeper --build-arg UWEBSOCKETS=github:uNetworking/uWebSockets.js#v20.49.0 .
#
# The base must have glibc (no Alpine): there is no musl binary of uWebSockets.js.

ARG NODE_IMAGE=node:20-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# `npm install --no-save` takes the same locked versions where the lock file lacks optional packages of this platform.
RUN npm ci --include=dev || npm install --no-save --include=dev
COPY tsconfig.json tsconfig.build.json ./
COPY src src
RUN npm run build && find dist -name '*.d.ts' -delete

FROM ${NODE_IMAGE} AS dependencies
ARG UWEBSOCKETS=""
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev || npm install --no-save --omit=dev
# The official package comes from GitHub, which npm fetches with git.
RUN if [ -n "${UWEBSOCKETS}" ]; then \
      apt-get update \
      && apt-get install -y --no-install-recommends ca-certificates git \
      && rm -rf /var/lib/apt/lists/* \
      && npm install --no-save --omit=dev "uWebSockets.js@${UWEBSOCKETS}"; \
    fi
# Of the native binaries only the one for this platform and this Node.js stays (7 of 140 MB).
RUN keep="$(node -p '`uws_${process.platform}_${process.arch}_${process.versions.modules}.node`')" \
    && find node_modules/uWebSockets.js -name 'uws_*.node' ! -name "${keep}" -delete \
    && test -n "$(find node_modules/uWebSockets.js -name "${keep}")"

FROM ${NODE_IMAGE}
LABEL org.opencontainers.image.title="Tollkeeper" \
      org.opencontainers.image.description="Auth sidecar: tokens, scopes and limits in front of any HTTP API." \
      org.opencontainers.image.licenses="Apache-2.0"
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY lua lua
COPY package.json LICENSE ./
RUN ln -s /app/dist/main.js /usr/local/bin/tollkeeper && chmod +x dist/main.js
# The user `node` of the base image, by number so that `runAsNonRoot` can check it. Nothing in /app is writable for it.
USER 1000:1000
EXPOSE 8080 9090
# Alive, not ready: a container must not be restarted because Redis is away.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
  CMD ["node", "-e", "const port = (process.env.TOLLKEEPER_ADMIN_LISTEN ?? ':9090').split(':').pop(); fetch(`http://127.0.0.1:${port}/healthz`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1));"]
ENTRYPOINT ["node", "/app/dist/main.js"]
CMD ["serve"]
