import type { Listing, Page } from '../tenant/repository.js';

/** One page of a list, as the admin API answers it. */
export interface Paged<T> {
  readonly data: readonly T[];
  readonly meta: {
    readonly page: number;
    readonly per_page: number;
    readonly total: number;
    readonly total_pages: number;
  };
}

/** The answer for one page of records; `views` are what is shown of them, in their order. */
export function paged<T>(views: readonly T[], total: number, { page, perPage }: Page): Paged<T> {
  return { data: views, meta: { page, per_page: perPage, total, total_pages: Math.ceil(total / perPage) } };
}

/** As {@link paged}, for a view that is made of the record alone. */
export function pagedOf<R, T>({ records, total }: Listing<R>, page: Page, view: (record: R) => T): Paged<T> {
  return paged(records.map(view), total, page);
}
