"""HOW it is trained. A file imports only files that come before it in this reading order:

keyed, problems, document, precision, settings, coherence, experiment, identity, tokens, tokenise,
prepare, plan, batch, weighting, model, optimizer, engine, joint_step, famo, evaluate, checkpoint,
weights, journal, training, loop, recorder, summary, store, tracking, charts, access, cluster,
launch, run, predict, records, served, export, report, check, doctor, view, verb, cli, submit.
"""
