import { describe, expect, test } from 'vitest';
import { Slots } from '../../../src/admin/slots.js';
import type { Principal } from '../../../src/management/principal.js';

const principal = (name: string): Principal => ({ kind: 'session', name, role: 'operator', tenant: null, address: '' });

describe('slots', () => {
  test('nobody has more than its own, all together no more than there are, and each comes back', async () => {
    const slots = new Slots({ each: 2, total: 3 });
    const ends: (() => void)[] = [];
    const hold = (name: string): Promise<string> =>
      slots.run(principal(name), () => new Promise((resolve) => ends.push(() => resolve(name))));
    const refused = expect.objectContaining({ slug: 'too-many-requests', retryAfterS: 5 }) as unknown;
    const first = hold('ann');
    const second = hold('ann');
    await expect(hold('ann')).rejects.toEqual(refused);
    const third = hold('gil');
    await expect(hold('olga')).rejects.toEqual(refused);
    ends[0]?.();
    expect(await first).toBe('ann');
    const fourth = hold('olga');
    for (const end of ends) end();
    expect(await Promise.all([second, third, fourth])).toEqual(['ann', 'gil', 'olga']);
  });

  test('one comes back also from work that fails', async () => {
    const slots = new Slots({ each: 1, total: 1 });
    await expect(slots.run(principal('ann'), () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await slots.run(principal('ann'), () => Promise.resolve(1))).toBe(1);
  });
});
