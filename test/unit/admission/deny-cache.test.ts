import { expect, test } from 'vitest';
import { blankVerdict, type Verdict, verdictCodes } from '../../../src/admission/ticket.js';
import { type Denial, DenyCache, restate } from '../../../src/admission/deny-cache.js';
import { ticketOf } from '../../lua/admit-rig.js';

const refusal = (fields: Partial<Verdict> = {}): Verdict =>
  Object.assign(blankVerdict(), { code: verdictCodes.limited, limitIndex: 0, retryMs: 400, resetMs: 300, ...fields });

function enabledCache(entriesMax = 10): { cache: DenyCache; sentAtMs: number } {
  const cache = new DenyCache(entriesMax);
  cache.enabled = true;
  return { cache, sentAtMs: Math.ceil(performance.now() + 1) };
}

test('a refusal holds for its cost and more, until its wait has passed since it was sent', () => {
  const { cache, sentAtMs } = enabledCache();
  const ticket = ticketOf({ tokenKey: 'a', cost: 2 });
  cache.remember(ticket, refusal(), sentAtMs);
  expect(cache.find(ticket, sentAtMs + 399)).toBeDefined();
  expect(cache.find(ticketOf({ tokenKey: 'a', cost: 3 }), sentAtMs)).toBeDefined();
  expect(cache.find(ticketOf({ tokenKey: 'a', cost: 1 }), sentAtMs)).toBeUndefined();
  expect(cache.find(ticketOf({ tokenKey: 'a', cost: 0 }), sentAtMs)).toBeUndefined();
  expect(cache.find(ticketOf({ tokenKey: 'b', cost: 2 }), sentAtMs)).toBeUndefined();
  expect(cache.find(ticket, sentAtMs + 400)).toBeUndefined();
});

test('a long wait is asked again after a second', () => {
  const { cache, sentAtMs } = enabledCache();
  const ticket = ticketOf({ tokenKey: 'a' });
  cache.remember(ticket, refusal({ retryMs: 3_600_000 }), sentAtMs);
  expect(cache.find(ticket, sentAtMs + 999)).toBeDefined();
  expect(cache.find(ticket, sentAtMs + 1000)).toBeUndefined();
});

test('it holds for the versions it was told for only', () => {
  const { cache, sentAtMs } = enabledCache();
  const ticket = { tokenKey: 'a', tokenVersion: 3, tenantKey: 't', tenantVersion: 5 };
  cache.remember(ticketOf(ticket), refusal(), sentAtMs);
  expect(cache.find(ticketOf(ticket), sentAtMs)).toBeDefined();
  expect(cache.find(ticketOf({ ...ticket, tokenVersion: 4 }), sentAtMs)).toBeUndefined();
  expect(cache.find(ticketOf({ ...ticket, tenantVersion: 6 }), sentAtMs)).toBeUndefined();
});

test('a change of the token or its tenant forgets it, and what was sent before the change is not remembered', () => {
  const { cache, sentAtMs } = enabledCache();
  const ticket = ticketOf({ tokenKey: 'a', tenantKey: 't' });
  cache.remember(ticket, refusal(), sentAtMs);
  cache.forgetToken('a');
  expect(cache.find(ticket, sentAtMs)).toBeUndefined();
  cache.remember(ticket, refusal(), performance.now() + 1);
  cache.forgetTenant('t');
  expect(cache.size).toBe(0);
  cache.remember(ticket, refusal(), 1);
  expect(cache.size).toBe(0);
});

test('nothing is remembered while changes cannot be heard', () => {
  const { cache, sentAtMs } = enabledCache();
  const ticket = ticketOf({ tokenKey: 'a' });
  cache.remember(ticket, refusal(), sentAtMs);
  cache.enabled = false;
  expect(cache.find(ticket, sentAtMs)).toBeUndefined();
  cache.remember(ticket, refusal(), sentAtMs);
  cache.enabled = true;
  expect(cache.size).toBe(0);
});

test('the cheaper of two refusals is kept while it holds', () => {
  const { cache, sentAtMs } = enabledCache();
  const cheap = ticketOf({ tokenKey: 'a', cost: 1 });
  cache.remember(cheap, refusal(), sentAtMs);
  cache.remember(ticketOf({ tokenKey: 'a', cost: 5 }), refusal(), sentAtMs + 10);
  expect(cache.find(cheap, sentAtMs + 20)).toBeDefined();
});

test('it holds a bounded number of tokens and drops the oldest', () => {
  const { cache, sentAtMs } = enabledCache(3);
  for (const tokenKey of ['a', 'b', 'c', 'd', 'b']) cache.remember(ticketOf({ tokenKey }), refusal(), sentAtMs);
  expect(cache.size).toBe(3);
  const known = ['a', 'b', 'c', 'd'].filter((tokenKey) => cache.find(ticketOf({ tokenKey }), sentAtMs) !== undefined);
  expect(known).toEqual(['b', 'c', 'd']);
});

test('what is repeated counts down and leaves nothing', () => {
  const { cache, sentAtMs } = enabledCache();
  const ticket = ticketOf({ tokenKey: 'a' });
  cache.remember(ticket, refusal({ remaining: 2, nowMs: 5000, retryMs: 400, resetMs: 100 }), sentAtMs);
  const verdict = blankVerdict();
  restate(cache.find(ticket, sentAtMs) as Denial, sentAtMs + 150, verdict);
  expect(verdict).toMatchObject({ code: 9, remaining: 0, retryMs: 250, resetMs: 1, nowMs: 5150 });
});
