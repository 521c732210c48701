import { availableParallelism } from 'node:os';
import { describe, expect, test } from 'vitest';
import { usableCores } from '../../../src/config/usable-cores.js';

const files = (contents: Readonly<Record<string, string>>) => (path: string) => contents[path];

describe('the cores that a process may use', () => {
  test('are those of its affinity where no quota is set', () => {
    expect(usableCores(8, files({}))).toBe(8);
    expect(usableCores(8, files({ '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': 'max 100000\n' }))).toBe(8);
    const unlimited = {
      '/proc/self/cgroup': '3:cpu,cpuacct:/\n',
      '/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us': '-1\n',
      '/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us': '100000\n',
    };
    expect(usableCores(8, files(unlimited))).toBe(8);
  });

  test.each([
    ['200000 100000\n', 2],
    ['150000 100000\n', 2],
    ['20000 100000\n', 1],
    ['6400000 100000\n', 8],
  ])('are no more than the quota of its group, rounded up (%j)', (max, expected) => {
    expect(usableCores(8, files({ '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': max }))).toBe(expected);
  });

  test('heed the quota of every group above, and the older form of groups', () => {
    const nested = {
      '/proc/self/cgroup': '0::/pod/app\n',
      '/sys/fs/cgroup/pod/app/cpu.max': 'max 100000\n',
      '/sys/fs/cgroup/pod/cpu.max': '300000 100000\n',
    };
    expect(usableCores(8, files(nested))).toBe(3);
    const legacy = {
      '/proc/self/cgroup': '4:memory:/x\n1:cpu:/docker/7f\n0::/\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '400000\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
    };
    expect(usableCores(8, files(legacy))).toBe(4);
  });

  test('are at least one here, and no more than Node.js sees', () => {
    expect(usableCores()).toBeGreaterThanOrEqual(1);
    expect(usableCores()).toBeLessThanOrEqual(availableParallelism());
  });
});
