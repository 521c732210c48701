/** Every scenario that the benchmark knows. */
import { fastifyGateway } from '../peers/fastify.js';
import { nginxLuaRedis } from '../peers/nginx-lua-redis.js';
import { nginxProxy } from '../peers/nginx-proxy.js';
import { echo } from './echo.js';
import { proxyBearer, proxyBearerLeased, proxyDenied, proxyHmac } from './proxy.js';
import { proxyBody } from './proxy-body-1m.js';
import type { Scenario } from './scenario.js';
import { proxyScraped } from './scraped.js';
import { tokensMany, tokensManyEven } from './tokens-many.js';
import { verifyBearer, verifyBearerLeased, verifyHmac } from './verify.js';

/** In the order they run in: what is compared with each other is near to each other. */
export const scenarios: readonly Scenario[] = [
  echo,
  verifyBearer,
  verifyBearerLeased,
  verifyHmac,
  proxyDenied,
  nginxProxy,
  proxyBearer,
  proxyBearerLeased,
  nginxLuaRedis,
  fastifyGateway,
  proxyHmac,
  proxyScraped,
  tokensMany,
  tokensManyEven,
  proxyBody,
];
