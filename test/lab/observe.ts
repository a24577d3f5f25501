export * from '../../src/conformance/lab/observe.ts';
