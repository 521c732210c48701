/**
 * Waits for a condition that announces itself by no event; asks every few ms.
 * @throws Error after `timeoutMs`, which only a hang may reach: what is promised sooner is measured by a loop clock.
 */
export async function until(condition: () => boolean | Promise<boolean>, timeoutMs = 120_000): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error(`the condition did not come true within ${timeoutMs} ms`);
    await new Promise((resolve) => {
      setTimeout(resolve, 3);
    });
  }
}
