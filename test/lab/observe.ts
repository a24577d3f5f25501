export * from '../../src/lab/observe.ts';
