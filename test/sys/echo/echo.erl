#!/usr/bin/env escript
%% SPDX-License-Identifier: BSD-2-Clause
%% echo.erl - see echolib.py: passive (recv), active (messages of the driver), socket (the NIF that newer releases prefer)
-mode(compile).

sizes() -> [1, 2, 54, 55, 116, 117, 1000, 16383, 16384, 16385, 70000, 200000].
stream() -> 1 bsl 20.

main([Side, How, Port, Count]) ->
    N = list_to_integer(Count),
    case Side of
        "server" -> server(How, list_to_integer(Port), N);
        "client" -> client(How, list_to_integer(Port), N), io:format("~b whole~n", [N])
    end.

options("socket") -> [{inet_backend, socket} | options("passive")];
options("active") -> [binary, {packet, raw}, {active, false}, {nodelay, true}, {exit_on_close, false}];
options("passive") -> options("active").

%% A process for each connection; the first that fails takes us down, with its reason.
each(N, Start) ->
    Refs = [element(2, Start(I)) || I <- lists:seq(1, N)],
    [receive {'DOWN', R, process, _, normal} -> ok;
             {'DOWN', R, process, _, Why} -> io:format("~p~n", [Why]), halt(1)
     end || R <- Refs].

server(How, Port, N) ->
    {ok, L} = gen_tcp:listen(Port, options(How) ++ [{ip, {127, 0, 0, 1}}, {reuseaddr, true}, {backlog, 1000}]),
    Main = self(),
    each(N, fun(_) -> spawn_monitor(fun() ->
        {ok, S} = gen_tcp:accept(L),
        Main ! accepted,
        serve(How, S, erlang:md5_init())
    end) end),
    gen_tcp:close(L).

serve("active" = How, S, MD5) ->
    ok = inet:setopts(S, [{active, once}]),
    receive
        {tcp, S, Data} -> ok = gen_tcp:send(S, Data), serve(How, S, erlang:md5_update(MD5, Data));
        {tcp_closed, S} -> last(S, MD5);
        {tcp_error, S, Why} -> exit({server, Why})
    end;
serve(How, S, MD5) ->
    case gen_tcp:recv(S, 0) of
        {ok, Data} -> ok = gen_tcp:send(S, Data), serve(How, S, erlang:md5_update(MD5, Data));
        {error, closed} -> last(S, MD5);
        {error, Why} -> exit({server, Why})
    end.

last(S, MD5) ->
    ok = gen_tcp:send(S, erlang:md5_final(MD5)),
    ok = gen_tcp:close(S).

client(How, Port, N) ->
    Random = rand:bytes(1500000),       % shared by all; each message is another stretch of it
    each(N, fun(I) -> spawn_monitor(fun() ->
        {ok, S} = gen_tcp:connect({127, 0, 0, 1}, Port, options(How)),
        ask(How, S, fun(K, Size) -> binary:part(Random, (I * 7919 + K * 104729) rem 400000, Size) end)
    end) end).

ask(How, S, Stretch) ->
    Messages = lists:map(fun(Size) ->
        Data = Stretch(Size, Size),
        ok = gen_tcp:send(S, Data),
        Data = take(How, S, Size),      % a match: the same bytes, or the end of us
        Data
    end, sizes()),
    Data = Stretch(1, stream()),
    Me = self(),
    spawn_link(fun() -> ok = gen_tcp:send(S, Data), ok = gen_tcp:shutdown(S, write), Me ! sent end),
    Digest = erlang:md5([Messages, Data]),
    Whole = <<Data/binary, Digest/binary>>,
    Whole = take(How, S, byte_size(Whole)),
    receive sent -> ok end,
    {error, closed} = gen_tcp:recv(S, 1),
    ok = gen_tcp:close(S).

take("active", S, Size) when Size > 60000 -> take_active(S, Size, []);
take(_, S, Size) -> {ok, Data} = gen_tcp:recv(S, Size), Data.

%% Messages as the driver makes them.
take_active(_, 0, Parts) -> iolist_to_binary(lists:reverse(Parts));
take_active(S, Size, Parts) ->
    ok = inet:setopts(S, [{active, once}]),
    receive
        {tcp, S, Data} -> take_active(S, Size - byte_size(Data), [Data | Parts]);
        {tcp_closed, S} -> exit(early_end)
    end.
